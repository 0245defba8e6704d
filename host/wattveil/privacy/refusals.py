"""Every reason for which the gateway says no, in one list; scripts and people rely on the names.

A refusal is an answer, not a fault: commands print it and exit 0.
"""

from __future__ import annotations

REASONS = {
    # who asks
    "not_authenticated": "the key or token is not that person's, or the person is unknown",
    "revoked_person": "this person's access was withdrawn",
    "key_file_readable_by_others": "a key file must be readable by its owner alone (chmod 600)",
    # what the rules say
    "not_permitted": "no rule permits this",
    "policy_unusable": "the rules could not be evaluated, so nothing is permitted",
    "purpose_unknown": "the purpose is none of those listed in config.toml",
    "purpose_not_permitted": "this role may not act for this purpose",
    "consent_missing": "the customer has not consented to this use, or has revoked it",
    "own_data_only": "a customer may see one meter: the own one",
    "epsilon_too_large": "one answer may not cost so much epsilon",
    "delta_too_large": "one answer may not have so large a delta",
    "group_too_small": "fewer members than the smallest group that may be asked about",
    "resolution_too_fine": "this role may not see intervals this short",
    "technique_not_permitted": "this role may not use this technique for this purpose",
    "same_person": "two different persons are needed",
    "same_role": "two different roles are needed",
    # approvals
    "approval_needed": "a second person has to approve this first",
    "approval_unknown": "there is no such approval waiting",
    # what was spent
    "over_dataset_budget": "the budget of the data set is used up",
    "over_analyst_budget": "this person's budget is used up",
    "over_public_budget": "the budget of what the public may learn is used up",
    "over_delta_budget": "the sum of all deltas would exceed its limit",
    "over_day_limit": "a household in the group would exceed its limit of this day",
    "over_lifetime_limit": "a household in the group would exceed its lifetime limit",
    # what the data and earlier answers forbid
    "epoch_boundary": "the range crosses a change of pseudonyms; ask for each side by itself",
    "no_data": "the vault holds no interval of this range",
    "dominant_member": "one member makes up more of a value than the rule allows",
    "differencing": "with an answer given before, this one would reveal a few homes",
    "unknown_technique": "there is no technique of this name",
    "no_preview": "a preview would depend on the data, so there is none",
    "scale_too_small": "the mechanism's noise is smaller than its sensitivity demands",
}


class Refused(Exception):
    """The gateway says no. `reason` is one of REASONS; `detail` holds no identity and no reading.

    rule: id of the policy rule that decided, if one did.
    """

    def __init__(self, reason: str, detail: str = "", rule: str | None = None) -> None:
        if reason not in REASONS:
            raise KeyError(f"{reason} is no documented refusal")
        self.reason, self.detail, self.rule = reason, detail, rule
        super().__init__(f"{reason}: {detail or REASONS[reason]}")

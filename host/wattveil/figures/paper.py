"""What the paper says, and where. Nothing else of its evaluation is given as a number.

Yan, Zheng, Yu, Liang, "Multi-Smart Meter Data Encryption Scheme Based on Distributed Differential
Privacy", Big Data Mining and Analytics 7(1), 2024, section 6. Its curves exist as pictures only,
and its text does not say: key size, epsilon, Delta, data, repetitions, what "SD" is of, the users
behind Table 1, WAV's levels, DG-APED's groups.
"""

SOURCE = "Yan et al. 2024, section 6"
MACHINE = "Java, 3.2 GHz Intel Pentium, 16 GB; key size not stated"

METER_MS = 42.0  # 6.2: a meter at gamma = 20
CLOUD_S = 4.0  # 6.2: encrypting the bits at gamma = 20 and 500 users ("about 4 s")
GAMMA, USERS = 20, 500

# Table 1: (time in ms, SD)
TABLE = {"WAV": (0.3092, 0.0356), "DG-APED": (0.2679, 0.0541), "own": (0.2198, 0.0468)}

"""Runs the core's tests on MicroPython: `micropython run.py [module ...]`; on CPython pytest collects them.

Prints one line per test and, last, `N passed, N failed`; exit code 1 when any failed.
"""

import gc
import sys


def main(names):
    passed = failed = 0
    for name in names:
        module = __import__(name)
        for test in sorted(dir(module)):
            if not test.startswith("test_"):
                continue
            gc.collect()
            try:
                getattr(module, test)()
                passed += 1
                print("ok", name, test)
            except Exception as error:
                failed += 1
                print("FAILED", name, test)
                sys.print_exception(error)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))

"""What jobledger is tested with, for those who write a store, an executor or a policy of their own.

`stores`, `executors` and `crashes` have the conformance suites; `machine` and `schedule` drive one's own parts through the real engine;
`strategies` and `histories` are for tests of one's own.  Needs the extra `jobledger[testing]`.
"""

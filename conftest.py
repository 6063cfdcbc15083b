"""What holds for all tests."""

from hypothesis import settings

# A deadline for each example measures the machine's other work; what is slow shows in the run's own time.
settings.register_profile("jobledger", deadline=None, print_blob=True)
settings.load_profile("jobledger")

"""Models out of Python: forms that take and give waves, files of other runtimes, and the check that a file says what Keras says."""

"""`--law auto`: candidate forms of the law of N and D, weighted, with a smooth misfit."""

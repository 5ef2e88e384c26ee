"""Handing over: a study's numbers as one document, and as the files of the trainer that runs it."""

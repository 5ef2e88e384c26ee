"""Export: the numbers of a study as one document, and as the files of a trainer."""

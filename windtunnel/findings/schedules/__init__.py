"""Schedules compared at equal length: WSD, cosine, decay shares and shapes."""

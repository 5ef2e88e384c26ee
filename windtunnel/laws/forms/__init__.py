"""Laws that are one formula, and what every law is. A new one is one small file here."""

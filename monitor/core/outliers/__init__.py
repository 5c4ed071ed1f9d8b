"""Rows unlike the reference's: their scores, how many there are, and which are strongest."""

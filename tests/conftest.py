"""Puts this folder on the import path, so that the tests below it find the zoo when they are run alone."""

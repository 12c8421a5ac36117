"""The A/B analysis on data whose truth is known: how often it errs, and how often it finds what is there."""

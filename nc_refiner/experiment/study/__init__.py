"""What people prefer: a blind two-alternative study of two or more arms, its page, its votes and what they show."""

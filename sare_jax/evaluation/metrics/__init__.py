"""What captions and answers are measured by; each is a command too."""

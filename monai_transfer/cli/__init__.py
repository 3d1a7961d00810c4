"""The commands: thin calls into the library."""

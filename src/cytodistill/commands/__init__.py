"""The commands of the command line, a module for each field of work. They import what they need when they run."""

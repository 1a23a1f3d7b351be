"""The commands of `atlas`, one file a subject; each imports what it needs only when it runs."""

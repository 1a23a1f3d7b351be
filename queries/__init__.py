"""Named questions: one SQL file each, with a header that the tests prove true."""

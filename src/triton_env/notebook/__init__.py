"""What triton-env does in notebooks: progress and environments as HTML, and `%%sql`."""

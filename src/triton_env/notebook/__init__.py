"""What triton-env does in notebooks: `%%sql`."""

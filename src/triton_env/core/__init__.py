"""What everything else is made with: it knows no service, no runtime and no environment."""

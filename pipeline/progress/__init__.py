"""What a run is at: numbers gathered while it works, shown as a panel, as lines, or as JSON."""

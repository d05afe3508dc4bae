"""What several tests share: jobs made by hand, and the command line called in this process."""

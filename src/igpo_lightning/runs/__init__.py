"""What a run folder holds, and how a run ends and resumes."""

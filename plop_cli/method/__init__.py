"""The paper's arithmetic, pure: no model, no file, no database."""

"""Results as rich renderables and as flat rows; nothing here prints."""

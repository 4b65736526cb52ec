"""From YAML to objects: checks, signatures, building, and what a stranger's config may name."""

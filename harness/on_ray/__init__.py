"""Everything that touches Ray: clusters, what they have, and where a deployment is put."""

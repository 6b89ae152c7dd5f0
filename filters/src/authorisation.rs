//! What a caller may do: roles and permissions.

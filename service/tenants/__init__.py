"""Tenants: the keys file, and the tenants' rights, quotas and cache salts."""

"""Tenants: the keys file, and each tenant's rights, quotas and cache salts."""

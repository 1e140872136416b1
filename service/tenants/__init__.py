"""Tenants: their keys, rights, quotas and separate caches."""

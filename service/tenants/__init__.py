"""Tenants: the keys file, what each tenant may use, its quotas and its cache salts."""

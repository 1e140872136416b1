"""Writes the dashboards' JSON beside this file.

python -m deploy.grafana
"""

from pathlib import Path

from deploy.grafana.dashboard import PAGES, rendered

for page in PAGES:
    file = Path(__file__).with_name(f"{page.uid}.json")
    file.write_text(rendered(page), encoding="utf-8")

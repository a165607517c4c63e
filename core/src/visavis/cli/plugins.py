"""``visavis plugins``: what is installed, and what is broken and why."""

from __future__ import annotations

import typer

from visavis.cli.options import Json, output_of


def plugins(ctx: typer.Context, as_json: Json = False) -> None:
    """List the parts that are installed, and the plugins that cannot be used, each with its reason."""
    from visavis.registry import Registry

    output = output_of(ctx)
    registry = Registry.discover()
    found = registry.all()
    if as_json:
        output.json(
            {
                "plugins": [
                    {
                        "kind": item.kind.value,
                        "name": item.name,
                        "summary": item.record.summary,
                        "dist": item.origin.dist,
                        "version": item.origin.version,
                        "provides": sorted(getattr(item.record, "provides", ())),
                        "requires": sorted(getattr(item.record, "requires", ())),
                    }
                    for item in found
                ],
                "broken": [
                    {"dist": item.origin.dist, "version": item.origin.version, "reason": item.reason}
                    for item in registry.broken
                ],
            }
        )
        return
    output.rows([(item.kind.value, item.name, str(item.origin), item.record.summary) for item in found])
    for broken in registry.broken:
        output.result(f"broken  {broken.origin}: {broken.reason}")
        if output.verbose:
            output.tell(broken.details.rstrip())
    if not found:
        output.tell('nothing is installed: pip install "visavis[standard]"')

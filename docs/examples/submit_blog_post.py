"""Publish a post, and attach its address to every run that it is about.

    python submit_blog_post.py post.json https://example.org/posts

`post.json` holds {"slug": "mgda-analysis", "run_ids": ["mgda_i-abc123", ...]}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ledger.integrations import blog


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metadata", type=Path)
    parser.add_argument("site")
    asked = parser.parse_args()

    post = json.loads(asked.metadata.read_text(encoding="utf-8"))
    url = f"{asked.site.rstrip('/')}/{post['slug']}"  # where your own workflow deploys the post
    published = blog.publish(post["run_ids"], url)
    for run_id in published.attached:
        sys.stdout.write(f"{run_id}: {url}\n")
    for run_id, why in published.failed.items():
        sys.stderr.write(f"{run_id}: {why}\n")
    return 1 if published.failed else 0


if __name__ == "__main__":
    sys.exit(main())

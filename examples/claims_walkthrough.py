"""Two million claims through PostgreSQL, ClickHouse, Redis and S3, and the proof that no cent was lost.

python examples/claims_walkthrough.py
"""

import sys

from claims.cli import main

if __name__ == "__main__":
    sys.exit(main())

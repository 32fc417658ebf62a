"""Launch a run on a new EC2 instance: user data that records for itself, the instance, the launch, its conversation.

    export TRAINING_DB_PATH=~/training_runs.db
    python launch_ec2.py mgda.yaml --spool s3://team-spool/runs --conversation chat.json --bucket team --image ami-1
    python launch_ec2.py mgda.yaml --spool s3://team-spool/runs --conversation chat.json --folder kept --instance-id i-1

The second says which instance it is, so that nothing of AWS is needed; it prints the user data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ledger import new_chain_of_custody_id
from ledger.integrations.launch import OWN_INSTANCE, record_launch, run_id_for, user_data


def start_instance(image: str, instance_type: str, script: str) -> str:
    """Start one instance that terminates when it shuts down, and return its id."""
    import boto3

    answer = boto3.client("ec2").run_instances(
        ImageId=image,
        InstanceType=instance_type,
        MinCount=1,
        MaxCount=1,
        UserData=script,
        InstanceInitiatedShutdownBehavior="terminate",
    )
    return str(answer["Instances"][0]["InstanceId"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--conversation", type=Path)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--bucket")
    place.add_argument("--folder", type=Path)
    parser.add_argument("--spool", required=True, help="where the instance records to; `ledger sync` brings it in")
    machine = parser.add_mutually_exclusive_group(required=True)
    machine.add_argument("--image")
    machine.add_argument("--instance-id")
    parser.add_argument("--instance-type", default="g5.12xlarge")
    asked = parser.parse_args()

    chain = new_chain_of_custody_id()
    script = user_data(
        run_id_for(asked.config, asked.instance_id or OWN_INSTANCE),
        ["python3", "train.py", asked.config.name],
        setup=["pip install 'training-run-ledger[aws]'", "aws s3 sync s3://team-code/train /opt/train"],
        workdir="/opt/train",
        ledger_url=asked.spool,
        chain_of_custody_id=chain,
        bucket=asked.bucket,
    )
    instance_id = asked.instance_id or start_instance(asked.image, asked.instance_type, script)
    launch = record_launch(
        asked.config,
        instance_id,
        chain_of_custody_id=chain,
        conversation=asked.conversation,
        bucket=asked.bucket,
        folder=asked.folder,
        instance_type=asked.instance_type,
    )
    if asked.instance_id:
        sys.stdout.write(script)
    sys.stderr.write(f"{launch.run_id}, chain of custody {launch.chain_of_custody_id}\n")
    return 1 if launch.problems else 0


if __name__ == "__main__":
    sys.exit(main())

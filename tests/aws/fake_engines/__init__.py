"""SageMaker and AWS Batch as far as the engines use them: their HTTP APIs, with time and faults.

A fake answers on 127.0.0.1 as AWS documents it, behind boto3's ``endpoint_url`` (or the variables
of :meth:`FakeEngines.environment`). Each job follows a script: how long it waits, when spot takes
its machine, how it ends. Time is a clock that a test moves, or one that runs, faster if wanted::

    with FakeEngines() as fakes:
        fakes.sagemaker.script = lambda request: scripts.sagemaker_success(training=60)
        fakes.on_event = bus.append        # what AWS would put on the default event bus
        ...
        fakes.advance(120)                 # seconds; emits the events of what happened meanwhile
"""

from tests.aws.fake_engines.engines import FakeEngines

__all__ = ["FakeEngines"]

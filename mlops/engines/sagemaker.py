"""The engine that runs jobs as SageMaker training jobs."""

import re
from typing import Any

from mlops.engines import EngineRefusedError, JobHandle, JobSpec, JobState, Phase
from mlops.engines.aws_errors import cloud_client, engine_errors, error_code, error_message
from mlops.engines.cloud_jobs import check_limits, job_tags, with_estimate, write_job_files
from mlops.engines.cloud_settings import SageMakerSettings
from mlops.engines.instance_types import (
    InstanceType,
    InstanceTypes,
    read_instance_types,
    sagemaker_name,
)
from mlops.engines.sagemaker_status import job_state
from mlops.jobs import JOB_DOCUMENT_ENV
from mlops.storage import keys
from mlops.storage.s3 import S3Store, key_url

__all__ = ["SageMakerEngine", "SageMakerSettings", "metric_pattern"]

_CHECKPOINTS = "/opt/ml/checkpoints"
_REFUSALS = frozenset({"ValidationException", "ResourceNotFound"})
_NAME = re.compile(r"\A[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}\Z")


class SageMakerEngine:
    """Runs jobs as SageMaker training jobs; an :class:`~mlops.engines.Engine`.

    A job's name is its id, and SageMaker takes a name once, so starting is idempotent. The
    container is told where its job document lies and nothing else: SageMaker shows a job's
    environment to everybody who may describe it.

    Args:
        settings: of the deployment.
        store: where jobs find their document and keep their checkpoints.
        client: a boto3 SageMaker client; made from the environment when left out.
        types: the table of instance types; read as the settings say when left out.
    """

    name = "sagemaker"

    def __init__(
        self,
        settings: SageMakerSettings,
        store: S3Store,
        client: Any = None,
        types: InstanceTypes | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._client = cloud_client("sagemaker") if client is None else client
        self._types = types or read_instance_types(settings.instance_types)

    def start(self, job: JobSpec) -> JobHandle:
        """Create the training job, or find the one already created under its name."""
        if not _NAME.match(job.name):
            raise ValueError(f"job name {job.name!r} is not valid on SageMaker")
        plain, machine = check_limits(
            job, self._settings, self._types, "sagemaker", self._settings.default_instance_type
        )
        image = self._image(job)
        with engine_errors():
            place = write_job_files(self._store, job)
            self._create(self._request(job, plain, machine, image, place), place)
        return JobHandle(self.name, job.name, self._console(job.name))

    def describe(self, job_id: str) -> JobState:
        """Say where the job stands."""
        described = self._describe(job_id)
        if described is None:
            return JobState(Phase.UNKNOWN)
        spot = bool(described.get("EnableManagedSpotTraining"))
        return with_estimate(job_state(described), self._types, "sagemaker", spot)

    def stop(self, job_id: str) -> None:
        """End the job: SIGTERM, and after 120 seconds SIGKILL."""
        from botocore.exceptions import ClientError

        if not _NAME.match(job_id):
            return
        try:
            with engine_errors():
                self._client.stop_training_job(TrainingJobName=job_id)
        except ClientError as error:
            # SageMaker refuses to stop what has ended, and what is not there.
            if error_code(error) not in _REFUSALS or not self._is_over(job_id):
                raise

    def _is_over(self, job_id: str) -> bool:
        described = self._describe(job_id)
        return described is None or described["TrainingJobStatus"] not in ("InProgress",)

    def _describe(self, job_id: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        if not _NAME.match(job_id):
            return None
        try:
            with engine_errors():
                described = self._client.describe_training_job(TrainingJobName=job_id)
        except ClientError as error:
            if error_code(error) in _REFUSALS:
                return None
            raise
        return dict(described)

    def _create(self, request: dict[str, Any], place: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self._client.create_training_job(**request)
        except ClientError as error:
            if error_code(error) == "ResourceInUse":
                self._check_ours(request["TrainingJobName"], place)
            elif error_code(error) in _REFUSALS:
                raise EngineRefusedError(
                    f"SageMaker refuses the job: {error_message(error)}"
                ) from error
            else:
                raise

    def _check_ours(self, name: str, place: str) -> None:
        """Whoever has the name must have been told of the same document."""
        described = self._describe(name)
        if (
            described is not None
            and described.get("Environment", {}).get(JOB_DOCUMENT_ENV) != place
        ):
            raise EngineRefusedError(
                f"SageMaker has a training job {name} of another deployment in this account and "
                "region: submit the run under another id."
            )

    def _image(self, job: JobSpec) -> str:
        framework = job.document.framework
        image = self._settings.images.get(framework)
        if image is None:
            known = ", ".join(sorted(self._settings.images)) or "none"
            raise EngineRefusedError(
                f"This deployment has no SageMaker image for {framework} (it has: {known}): take "
                "another framework, or have its image built and named in the deployment."
            )
        return image

    def _request(
        self, job: JobSpec, plain: str, machine: InstanceType, image: str, place: str
    ) -> dict[str, Any]:
        settings, document = self._settings, job.document
        stopping = {"MaxRuntimeInSeconds": job.max_runtime}
        if job.spot:
            stopping["MaxWaitTimeInSeconds"] = job.max_runtime + settings.spot_wait_seconds
        checkpoints = keys.checkpoints(document.workspace, document.item)
        request: dict[str, Any] = {
            "TrainingJobName": job.name,
            "RoleArn": settings.role,
            "AlgorithmSpecification": {
                "TrainingImage": image,
                "TrainingInputMode": "File",
                "MetricDefinitions": [
                    {
                        "Name": document.objective_metric,
                        "Regex": metric_pattern(document.objective_metric),
                    }
                ],
            },
            "ResourceConfig": self._resources(job, plain, machine),
            "StoppingCondition": stopping,
            "EnableManagedSpotTraining": job.spot,
            "EnableNetworkIsolation": False,
            "EnableInterContainerTrafficEncryption": (
                settings.encrypt_traffic and job.instance_count > 1
            ),
            "CheckpointConfig": {
                "S3Uri": key_url(self._store, checkpoints),
                "LocalPath": _CHECKPOINTS,
            },
            # The job uploads its outputs itself; what SageMaker packs expires with the job's files.
            "OutputDataConfig": self._output(job.name),
            "Environment": {JOB_DOCUMENT_ENV: place},
            "Tags": [
                {"Key": name, "Value": value} for name, value in job_tags(job, settings).items()
            ],
        }
        if settings.subnets:
            request["VpcConfig"] = {
                "Subnets": settings.subnets,
                "SecurityGroupIds": settings.security_groups,
            }
        return request

    def _resources(self, job: JobSpec, plain: str, machine: InstanceType) -> dict[str, Any]:
        resources: dict[str, Any] = {
            "InstanceType": sagemaker_name(plain),
            "InstanceCount": job.instance_count,
            "VolumeSizeInGB": self._settings.volume_gb,
        }
        # Disks that are part of the machine encrypt themselves, and a key for them is refused.
        if self._settings.kms_key is not None and not machine.local_disk_gb:
            resources["VolumeKmsKeyId"] = self._settings.kms_key
        return resources

    def _output(self, name: str) -> dict[str, Any]:
        place = key_url(self._store, f"{keys.job_prefix(name)}output")
        output = {"S3OutputPath": place, "CompressionType": "NONE"}
        if self._settings.kms_key is not None:
            output["KmsKeyId"] = self._settings.kms_key
        return output

    def _console(self, name: str) -> str:
        region = self._client.meta.region_name
        return (
            f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/jobs/{name}"
        )


def metric_pattern(name: str) -> str:
    """How SageMaker finds a metric in a job's log: ``name=value``, as the job writes it."""
    return rf"(?:^|\s){re.escape(name)}=([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"

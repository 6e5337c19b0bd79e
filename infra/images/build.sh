#!/bin/sh
# Builds a training image and pushes it: infra/images/build.sh FRAMEWORK REPOSITORY [TAG]
#
#   infra/images/build.sh pytorch 123456789012.dkr.ecr.eu-central-1.amazonaws.com/mlops/pytorch
#
# Prints the image by its digest: that is what the deployment takes (PytorchImage=...), so a tag
# that is moved changes no run. BASE and TORCH_INDEX in the environment replace the file's own;
# PUSH=no builds only. ECR's login is made with the AWS CLI's credentials.
set -eu

fail() { printf 'build: %s\n' "$*" >&2; exit 1; }

root=$(cd "$(dirname "$0")/../.." && pwd)
framework=${1:-}
repository=${2:-}
file="$root/infra/images/$framework.Dockerfile"
known=$(cd "$root/infra/images" && ls ./*.Dockerfile | sed 's|^\./||; s|\.Dockerfile$||; /^server$/d' | tr '\n' ' ')
[ -n "$framework" ] && [ -n "$repository" ] || fail "usage: build.sh FRAMEWORK REPOSITORY [TAG]; frameworks: $known"
[ -f "$file" ] && [ "$framework" != server ] || fail "there is no image for $framework; there are: $known"
case ${BASE:-default@sha256:} in
*@sha256:*) ;;
*) fail "BASE must name its digest (image:tag@sha256:...), so that the same file gives the same image" ;;
esac
command -v docker >/dev/null || fail "docker (with buildx) is needed"
revision=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || revision="$revision-changed"
tag=${3:-$revision}

push=--push
[ "${PUSH:-yes}" = yes ] || push=--load
case $repository in
*.dkr.ecr.*.amazonaws.com*/*)
    if [ "$push" = --push ]; then
        registry=${repository%%/*}
        region=$(printf '%s' "$registry" | cut -d. -f4)
        aws ecr get-login-password --region "$region" |
            docker login --username AWS --password-stdin "$registry" >&2
    fi
    ;;
esac

metadata=$(mktemp)
trap 'rm -f "$metadata"' EXIT
# SageMaker reads images of one platform only: no index with provenance beside it.
docker buildx build "$root" --file "$file" --platform linux/amd64 --provenance=false --sbom=false \
    ${BASE:+--build-arg "BASE=$BASE"} ${TORCH_INDEX:+--build-arg "TORCH_INDEX=$TORCH_INDEX"} \
    --label "org.opencontainers.image.revision=$revision" \
    --tag "$repository:$tag" --metadata-file "$metadata" $push >&2
if [ "$push" = --push ]; then
    digest=$(sed -n 's/.*"containerimage.digest": "\([^"]*\)".*/\1/p' "$metadata" | head -n 1)
    [ -n "$digest" ] || fail "docker did not say the image's digest"
    printf '%s@%s\n' "$repository" "$digest"
else
    printf '%s:%s\n' "$repository" "$tag"
fi

#!/usr/bin/env bash
# The chart on a real node, from nothing to nothing: images, a cluster of its own, the story of
# test_chart_on_cluster.py, and how long each part took (README.md says what stands for what).
#
#   make test-cluster
#
# CLUSTER=…  the tool that starts a cluster of one real node, with the verbs up, down, kubeconfig and load-image
# TOOLS=…    a program that prints a folder with the executables and archives that it is asked for
# BASE=…     the image that ours are built on; without it a Debian with Python is made by debootstrap
set -euo pipefail
cd "$(dirname "$0")/../../.."
: "${CLUSTER:?names the tool that starts a cluster with a real node (tests/cluster/chart/README.md)}"
: "${TOOLS:?names the program that unpacks helm, kubectl, Kafka and MinIO}"
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
SCRATCH=$(mktemp -d /var/tmp/tracemend-chart.XXXX)
export CLUSTER_STATE=$SCRATCH/kube
trap '"$CLUSTER" down || true; rm -rf "$SCRATCH"' EXIT
BEGUN=$SECONDS
took() { echo "$1: $((SECONDS - BEGUN)) s" && BEGUN=$SECONDS; }

if [ -z "${BASE:-}" ]; then
	BASE=localhost/tracemend-base:bookworm
	buildah inspect "$BASE" >/dev/null 2>&1 || {
		debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$SCRATCH/root" >/dev/null
		rm -rf "$SCRATCH"/root/{var/cache/apt/archives/*.deb,var/lib/apt/lists/*,usr/share/doc}
		made=$(buildah from scratch)
		buildah add --quiet "$made" "$SCRATCH/root" / >/dev/null
		buildah commit --quiet --rm "$made" "$BASE" >/dev/null
		rm -rf "$SCRATCH/root"
	}
fi
build=(--isolation chroot --layers ${SSL_CERT_FILE:+--secret "id=ca,src=$SSL_CERT_FILE"})
make --silent images IMAGES=services BUILDER=buildah BASE="$BASE" BUILD_ARGS="${build[*]}" >/dev/null
tools=$("$TOOLS" helm kube minio)
mkdir "$SCRATCH/servers"
cp "$tools/minio" tests/cluster/chart/servers/start-* "$SCRATCH/servers"
cp -r "$(find "$tools" -maxdepth 2 -type d -name kafka-libs | head -n 1)" "$SCRATCH/servers"
buildah build --quiet --isolation chroot --layers --build-arg BASE="$BASE" --tag localhost/tracemend-servers:test \
	--file tests/cluster/chart/servers/Dockerfile "$SCRATCH/servers" >/dev/null
took "images"

"$CLUSTER" up
for image in "localhost/tracemend:$VERSION" localhost/tracemend-servers:test; do
	buildah push --quiet "$image" "docker-archive:$SCRATCH/image.tar:$image"
	"$CLUSTER" load-image "$SCRATCH/image.tar"
	rm "$SCRATCH/image.tar"
done
took "cluster with images"

KUBECONFIG=$("$CLUSTER" kubeconfig)
TRACEMEND_PODS=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
export KUBECONFIG TRACEMEND_PODS PATH="$tools:$PATH" TRACEMEND_REQUIRE="${TRACEMEND_REQUIRE:+$TRACEMEND_REQUIRE,}pods"
.venv/bin/pytest -s tests/cluster/chart
took "all tests"

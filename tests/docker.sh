#!/usr/bin/env bash
# The image and the compose file, built and run: called by ./tests/run docker, which sees to an engine.
set -uo pipefail
cd "$(dirname "$0")/.."

IMAGE=octoprint2mqtt:test
export COMPOSE_PROJECT_NAME=octoprint2mqtt-test-$$ OCTOPRINT2MQTT_IMAGE=$IMAGE
work=$(mktemp -d)
passed=0 failed=0

compose() { docker compose --project-directory "$work" -f "$work/compose.yml" --profile demo "$@"; }

clean_up() {
  compose down --volumes --timeout 5 >/dev/null 2>&1
  rm -rf "$work"
}
trap clean_up EXIT

# Says what was tried and how it went.
try() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "test $what ... ok"
  else
    failed=$((failed + 1))
    echo "test $what ... FAILED"
  fi
}

# Repeats a command until it succeeds: seconds, command …
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 1
  done
}

finish() {
  [ "$failed" = 0 ] || compose logs --no-color --tail 40 octoprint2mqtt 2>&1
  local word=ok
  [ "$failed" = 0 ] || word=FAILED
  echo "test result: $word. $passed passed; $failed failed;"
  exit $((failed > 0))
}

build() { DOCKER_BUILDKIT=1 docker build -f docker/Dockerfile -t "$@" . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log"; false; }; }
try "the image builds" build "$IMAGE"
try "the simulated OctoPrint builds from the same file" build octoprint2mqtt:simulator --build-arg FEATURES=simulator
[ "$failed" = 0 ] || finish

small() {
  local size
  size=$(docker image inspect -f '{{.Size}}' "$IMAGE")
  echo "image: $((size / 1000000)) MB"
  [ "$size" -lt 40000000 ]
}
try "the image is under 40 MB" small

binary() {
  local container size
  container=$(docker create "$IMAGE") && docker cp -q "$container:/usr/local/bin/octoprint2mqtt" "$work/binary"
  docker rm "$container" >/dev/null
  size=$(stat -c %s "$work/binary")
  echo "binary: $size bytes"
  [ "$size" -lt 8000000 ]
}
try "the binary is under 8 MB" binary

try "the user is not root" test "$(docker image inspect -f '{{.Config.User}}' "$IMAGE")" = 65532
no_shell() { ! docker run --rm --entrypoint /bin/sh "$IMAGE" -c true >/dev/null 2>&1; }
try "there is no shell" no_shell

cp docker/compose.yml docker/mosquitto.conf "$work/"
sed -i "s#context: ..#context: $PWD#" "$work/compose.yml"
cp docker/demo.env "$work/.env"
mkdir "$work/secrets"
openssl rand -hex 16 >"$work/secrets/mqtt_password"
password=$(cat "$work/secrets/mqtt_password")

config_passes() {
  compose config -q || return 1
  ! command -v docker-compose >/dev/null 2>&1 || docker-compose --project-directory "$work" -f "$work/compose.yml" config -q
}
try "the compose file passes docker compose config" config_passes
try "everything comes up" compose up -d --no-build --quiet-pull
[ "$failed" = 0 ] || finish

# What is retained on a topic now.
retained() { compose exec -T mosquitto mosquitto_sub -u bridge -P "$password" -t "$1" -C 1 -W 5; }
says() { [ "$(retained "$1")" = "$2" ]; }
try "the printer is online" until_true 60 says octoprint2mqtt/printer/availability online
try "its state arrives" until_true 30 retained octoprint2mqtt/printer/printer
try "Home Assistant is told" until_true 30 retained homeassistant/device/octoprint2mqtt_printer/config

no_warning() { ! compose logs --no-color mosquitto 2>&1 | grep -i warning; }
try "the broker has nothing to warn of" no_warning
compose restart --timeout 5 mosquitto >/dev/null 2>&1
try "started again it lets the bridge in" until_true 60 says octoprint2mqtt/bridge/state online
try "and has nothing to warn of" no_warning

bridge=$(compose ps -q octoprint2mqtt)
healthy() { docker exec "$bridge" octoprint2mqtt health; }
unhealthy() { ! healthy; }
engine_says() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$bridge")" = healthy ]; }
try "it is healthy" until_true 30 healthy
try "the engine finds it healthy" until_true 60 engine_says
echo "memory: $(docker stats --no-stream --format '{{.MemUsage}}' "$bridge")"

stops() {
  local started=$SECONDS
  docker stop "$bridge" >/dev/null && [ $((SECONDS - started)) -lt 10 ] &&
    [ "$(docker inspect -f '{{.State.ExitCode}}' "$bridge")" = 0 ]
}
try "docker stop ends it in time and in good order" stops
try "and leaves offline behind" says octoprint2mqtt/bridge/state offline
docker start "$bridge" >/dev/null
try "started again it is online" until_true 60 says octoprint2mqtt/printer/availability online

compose stop mosquitto >/dev/null 2>&1
still_healthy() { sleep 20 && healthy >/dev/null; }
try "a broker that is away for a moment is no illness" still_healthy
try "one that is away for longer than a minute is" until_true 90 unhealthy
reason() { [[ $(docker exec "$bridge" octoprint2mqtt health 2>&1) == *"broker has been away"* ]]; }
try "and the reason is said" reason
compose start mosquitto >/dev/null 2>&1
try "with the broker back it is healthy again" until_true 90 healthy

read_only() {
  local container
  container=$(docker run -d --read-only --cap-drop ALL --network "${COMPOSE_PROJECT_NAME}_default" \
    -e OCTOPRINT2MQTT__MQTT__URL=mqtt://mosquitto:1883 -e OCTOPRINT2MQTT__MQTT__CLIENT_ID=second \
    -e OCTOPRINT2MQTT__MQTT__BASE_TOPIC=second -e OCTOPRINT2MQTT__MQTT__USERNAME=bridge \
    -e OCTOPRINT2MQTT__MQTT__PASSWORD="$password" -e OCTOPRINT2MQTT__HOMEASSISTANT__ENABLED=false \
    -e OCTOPRINT2MQTT__PRINTERS__P__URL=http://simulator:5000 \
    -e OCTOPRINT2MQTT__PRINTERS__P__API_KEY=SIMULATOR-KEY "$IMAGE") || return 1
  until_true 60 says second/p/availability online
  local outcome=$?
  # The volume belongs to the image's user, so that what must survive is kept.
  docker logs "$container" 2>&1 | grep -q 'nothing will survive' && outcome=1
  docker rm -f -v "$container" >/dev/null
  return $outcome
}
try "it runs with a read-only root, configured by variables alone" read_only
finish

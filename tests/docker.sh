#!/usr/bin/env bash
# The image and the compose file, built and run: called by ./tests/run docker, which sees to an engine.
set -uo pipefail
cd "$(dirname "$0")/.."

IMAGE=octoprint2mqtt:test
export COMPOSE_PROJECT_NAME=octoprint2mqtt-test-$$ OCTOPRINT2MQTT_IMAGE=$IMAGE
work=$(mktemp -d)
passed=0 failed=0

plain() { docker compose --project-directory "$work" -f "$work/compose.yml" "$@"; }
compose() { plain --profile demo "$@"; }
on_host() { plain -f "$work/compose.host.yml" "$@"; }

clean_up() {
  compose down --volumes --timeout 5 >/dev/null 2>&1
  docker rm -f -v "$COMPOSE_PROJECT_NAME-addon" >/dev/null 2>&1
  docker network rm "$COMPOSE_PROJECT_NAME-addons" >/dev/null 2>&1
  rm -rf "$work"
}
trap clean_up EXIT

# Says what was tried and how it went. Fails if it did.
try() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "test $what ... ok"
  else
    failed=$((failed + 1))
    echo "test $what ... FAILED"
    return 1
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

# One line of the README makes the passwords; the other places have the same.
secrets=$(grep '^mkdir -p secrets' README.md)
same_line() { [ "$(cat docs/src/guides/docker.md docker/compose.yml | grep -cF "$secrets")" -ge 2 ]; }
try "the line that makes the passwords is the same everywhere" same_line

cp docker/compose.yml docker/compose.host.yml docker/mosquitto.conf "$work/"
sed -i "s#context: ..#context: $PWD#" "$work/compose.yml"
make_secrets() { (cd "$work" && sh -euc "$secrets") && ! cmp -s "$work"/secrets/{mqtt,page}_password; }
try "it makes two passwords" make_secrets
password=$(cat "$work/secrets/mqtt_password")

config_passes() {
  plain config -q && on_host config -q && compose --env-file docker/demo.env config -q || return 1
  ! command -v docker-compose >/dev/null 2>&1 || docker-compose --project-directory "$work" -f "$work/compose.yml" config -q
}
try "the compose files pass docker compose config" config_passes

# The page of the running bridge. curl says the status.
page=http://127.0.0.1:8099
get() { curl -sS --max-time 10 "$@"; }
status() { [ "$(get -o /dev/null -w '%{http_code}' "${@:2}")" = "$1" ]; }
log_in() { status "$1" -c "$work/cookies" -H "Origin: $page" --data-urlencode "password=$2" "$page/login"; }
# Whether an answer has a text: the text, and what curl is to get.
has() { [[ $(get "${@:2}") == *"$1"* ]]; }
# What the page shows when it is opened. The stream does not end by itself.
events() { get --max-time 3 -N -b "$work/cookies" "$page/events" 2>/dev/null; }
asks_for_password() { has 'type="password"' "$page/"; }
shows_changes() { has 'id="add"' -b "$work/cookies" "$page/"; }
has_no_printer() { [[ $(events) == *'"ids":[]'* ]]; }
# In a network of its own nothing is found, and the page says what to do.
says_how_to_find() {
  has 'network_mode: host' --max-time 30 -b "$work/cookies" -H "Origin: $page" -H 'content-type: application/json' \
    -d '{"ask":"discover"}' "$page/ask"
}
nothing_secret() {
  local said
  said=$(plain logs --no-color octoprint2mqtt 2>&1; events)
  [[ $said == *'event: log'* && $said == *'connected to the broker'* ]] &&
    [[ $said != *"$(cat "$work/secrets/page_password")"* && $said != *"$password"* ]]
}

try "the first run needs no value, and gets healthy" plain up -d --no-build --quiet-pull --wait --wait-timeout 120 || finish
try "the page asks for a password" asks_for_password
try "it shows nothing without one" status 401 "$page/events"
try "a wrong one is refused" log_in 401 wrong
try "the right one is taken" log_in 303 "$(cat "$work/secrets/page_password")"
try "then it can be changed" shows_changes
try "there is no printer yet" has_no_printer
try "it says how printers are found" says_how_to_find
try "it is not served by another name" status 421 -H 'Host: evil.example' "$page/"
try "and nothing tells a password" nothing_secret

on_host_too() {
  on_host up -d --no-build --wait --wait-timeout 120 && asks_for_password &&
    [ "$(retained octoprint2mqtt/bridge/state)" = online ]
}

# What is retained on a topic now.
retained() { compose exec -T mosquitto mosquitto_sub -u bridge -P "$password" -t "$1" -C 1 -W 5; }
says() { [ "$(retained "$1")" = "$2" ]; }

try "it runs in the network of the host" on_host_too
cp docker/demo.env "$work/.env"
try "everything comes up with a simulated OctoPrint" compose up -d --no-build --quiet-pull || finish
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

# As an add-on, with this machine in the place of the supervisor, and another network from which others come.
addon_serves_ingress_alone() {
  local name=$COMPOSE_PROJECT_NAME-addon net=$COMPOSE_PROJECT_NAME-addons ingress other health outcome=0
  mkdir "$work/addon"
  echo '{"log_level":"info","printers":[],"mqtt":{"url":"mqtt://127.0.0.1:1"},"homeassistant":{},"http":{}}' \
    >"$work/addon/options.json"
  chmod 600 "$work/addon/options.json"
  sed "s#^FROM .*#FROM $IMAGE#" docker/addon/Dockerfile | docker build -q -t octoprint2mqtt:addon - >/dev/null &&
    docker run -d --name "$name" -e SUPERVISOR_TOKEN=none -v "$work/addon:/data" octoprint2mqtt:addon >/dev/null &&
    docker network connect "$net" "$name" || return 1
  ingress=http://$(docker inspect -f "{{(index .NetworkSettings.Networks \"$net\").IPAddress}}" "$name"):8099
  other=http://$(docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$name"):8099
  local prefix='X-Ingress-Path: /api/hassio_ingress/x'
  until_true 30 status 200 -H "$prefix" "$ingress/" || outcome=1
  # Home Assistant has logged in its user, and printers can be added.
  has 'id="add"' -H "$prefix" -H 'Host: home.example' "$ingress/" || outcome=1
  status 403 "$ingress/" || outcome=1
  status 403 -H "$prefix" "$other/" || outcome=1
  status 403 -H "$prefix" "$other/events" || outcome=1
  status 200 "$other/metrics" || outcome=1
  docker exec "$name" octoprint2mqtt health >/dev/null || outcome=1
  [ "$outcome" = 0 ] || docker logs --tail 20 "$name"
  return $outcome
}
if docker network create --subnet 172.30.32.0/23 --gateway 172.30.32.2 "$COMPOSE_PROJECT_NAME-addons" >/dev/null 2>&1; then
  try "as an add-on, it serves the page to the ingress alone" addon_serves_ingress_alone
else
  echo "LEFT OUT: the add-on: the network 172.30.32.0/23, which is Home Assistant's, is in use here"
fi
finish

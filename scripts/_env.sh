# shellcheck shell=bash
# Sourced by the other scripts: sets ROOT, VENV and PATH; need_venv and need_mariadb install what is missing.

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${LUIGI_JOBS_VENV:-$ROOT/var/venv}
INSTALL_LOG=$ROOT/var/log/install.log
# Debian keeps mariadbd in /usr/sbin, which only root has on its PATH.
export PATH="$VENV/bin:$PATH:/usr/local/sbin:/usr/sbin"
# Our servers are on this machine, whatever proxy leads to the package registries.
export no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"
export NO_PROXY=$no_proxy

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Runs a command with its output in the install log; the output is shown only when the command fails.
quietly() {
  local out status=0
  mkdir -p "$(dirname "$INSTALL_LOG")"
  out=$(mktemp)
  "$@" >"$out" 2>&1 </dev/null || status=$?
  { date '+== %F %T' && echo "$*" && cat "$out"; } >>"$INSTALL_LOG"
  ((status == 0)) || tail -n 40 "$out" >&2
  rm -f "$out"
  return "$status"
}

# Installs Debian packages without starting the servers that are in them.
# Run in a subshell, so that the trap takes the policy file away however this ends.
apt_install() (
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  # An update can fail because of somebody else's repository; the install then says what is really missing.
  apt-get update || true
  apt-get install -y "$@"
)

# need_packages PROGRAMS PACKAGE...
need_packages() {
  local programs=$1
  shift
  command -v apt-get >/dev/null || die "$programs needed; there is no apt-get here, install it your way and run this again."
  ((EUID == 0)) || die "$programs needed. Run as root: apt-get install -y $*"
  echo "installing $* (apt-get) ..." >&2
  quietly apt_install "$@" || die "cannot install $*, see $INSTALL_LOG"
  hash -r
}

need_mariadb() {
  if ! command -v mariadbd >/dev/null || ! command -v mariadb-install-db >/dev/null; then
    need_packages "mariadbd and mariadb-install-db are" mariadb-server
  fi
}

# The tests of wrong clocks are skipped where it cannot be installed.
want_faketime() {
  if ! command -v faketime >/dev/null && command -v apt-get >/dev/null && ((EUID == 0)); then
    echo "installing faketime (apt-get) ..." >&2
    quietly apt_install faketime || echo "cannot install faketime: the tests of wrong clocks are skipped" >&2
  fi
}

need_python() {
  command -v python3 >/dev/null || need_packages "python3 (3.11 or newer) is" python3 python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or newer is needed, python3 is $(python3 -V 2>&1). Debian 12 and later have it: apt-get install python3 python3-venv"
  python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages "python3 -m venv with pip is" python3-venv
}

# A virtual environment breaks when Python goes away, and points elsewhere when the clone is moved or copied.
venv_works() {
  [[ $("$VENV/bin/pip" --version 2>/dev/null) == *" from $VENV/"* ]]
}

is_installed() {
  local file stamp=$VENV/.installed
  [[ -e $stamp ]] || return 1
  for file in "$ROOT/setup.py" "$ROOT/pyproject.toml"; do
    if [[ $file -nt $stamp ]]; then return 1; fi
  done
}

need_venv() {
  if [[ ${LUIGI_JOBS_VENV:-} ]]; then
    [[ -x $VENV/bin/python ]] || die "LUIGI_JOBS_VENV=$VENV is not a virtual environment."
    return
  fi
  mkdir -p "$ROOT/var"
  exec 8>"$ROOT/var/venv.lock"
  flock 8
  if ! venv_works; then
    # First, because a broken one's python3 would be found on PATH.
    rm -rf "$VENV"
    hash -r
    need_python
    echo "making $VENV ..." >&2
    quietly python3 -m venv "$VENV" || die "cannot make $VENV, see $INSTALL_LOG"
  fi
  if ! is_installed; then
    echo "installing the package and its tools (pip) ..." >&2
    (cd "$ROOT" && quietly "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input -e '.[dev]') ||
      die "pip failed, see $INSTALL_LOG"
    touch "$VENV/.installed"
  fi
  exec 8>&-
}

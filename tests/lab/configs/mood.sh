#!/bin/sh
# Prints what is to become of the message whose dot has come: take, defer or reject. /var/lib/mood/now says so: "defer"
# for always, "defer 1" for once; with "hold" there is no answer until it says something else. `mood policy` is a policy
# server for Postfix, which asks it over one connection again and again.

verdict() {
  cd /var/lib/mood 2>/dev/null || { echo take; return; }
  : >asked
  while read -r what times <now && [ "$what" = hold ]; do sleep 0.05; done
  case $times in
    '') ;;
    1) echo take >now ;;
    *) echo "$what $((times - 1))" >now ;;
  esac
  echo "$what"
}

if [ "$1" != policy ]; then
  verdict
  exit
fi
while read -r line; do
  [ -z "$line" ] || continue
  case $(verdict) in
    defer) printf 'action=451 4.3.0 Not now\n\n' ;;
    reject) printf 'action=550 5.7.1 Not wanted\n\n' ;;
    *) printf 'action=DUNNO\n\n' ;;
  esac
done

# Starts an agent on the far host, or asks for one. It is sent as one line, so every line ends in
# `;` or a keyword and comments have lines of their own. Any POSIX sh must run it.
#
# $1  BLAKE3 of the near side's executable, which names its copy in the cache
# $2  the agent to use, from --agent-path, or nothing
# $3  what to run it with, in words: `sudo -n --` or nothing
# $4  the protocol that the near side speaks
hash=$1; wanted=$2; with=$3; protocol=$4;

start() { exec $with "$1" agent; };

case $wanted in "~/"*) wanted=$HOME/${wanted#"~/"};; esac;
if [ -n "$wanted" ]; then start "$wanted"; fi;

cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/cutover;
agent=$cache/agent-$hash;
if [ -x "$agent" ]; then start "$agent"; fi;

for name in cutover "$HOME/.cargo/bin/cutover" "$HOME/.local/bin/cutover"; do
  found=$(command -v "$name") || continue;
  said=$("$found" agent --protocol </dev/null 2>/dev/null);
  case $said in "cutover-agent $protocol "*) start "$found";; esac;
done;

# None is here. The near side answers with the size of its own executable and with its bytes, or
# closes the stream when they would be of no use on this system.
echo "cutover-agent-missing $(uname -s) $(uname -m)";
read -r size || exit 0;

# The copy takes its name only when it runs here and knows its own hash.
copy=$agent.$$;
clean() { rm -f "$copy"; };
trap clean 0;
trap "exit 1" 1 2 13 15;
fail() { echo "cutover-agent-failed $1"; exit 1; };
(umask 077; mkdir -p "$cache" && head -c "$size" >"$copy" && chmod 700 "$copy") || fail store;
said=$("$copy" agent --self-hash </dev/null 2>&1) || { echo "$said" >&2; fail run; };
if [ "$said" = "$hash" ]; then mv -f "$copy" "$agent" || fail store; else fail hash; fi;
start "$agent";

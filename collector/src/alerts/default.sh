#!/bin/sh
# The built-in error alert script.
#
# It is run for every error alert of the cluster, on one member (VEDETTE_ALERT_SCOPE is cluster), for
# what a node lives through by itself, on that node (node), and for every test of it. Change
# it with `vedette alert edit`: the new text is then in force on all members, older versions are
# kept, and `vedette alert test` shows whether it works.
#
# What it is told:
#   $1 number  $2 kind of subject  $3 subject  $4 code  $5 message
#   VEDETTE_ALERT_CODE SEVERITY MESSAGE CAUSE SUBJECT SUBJECT_KIND PREVIOUS CURRENT NODE MEMBER
#   CLUSTER TIMESTAMP INCIDENT REVISION SEQ TEST ATTEMPT SCOPE (each with VEDETTE_ALERT_ before it),
#   Pacemaker's CRM_alert_*, and the whole record as JSON on standard input.
#
# Where the alert goes:
#   1. It is printed; what is printed is kept in the history with the outcome of the run.
#   2. By mail, if VEDETTE_ALERT_MAILTO names somebody and a mail program is there.
#   3. To the system's log, if `logger` can reach it.
#   4. To the file VEDETTE_ALERT_LOG, if it can be written.
# The script fails if none of 2 to 4 worked, because then nobody has been told.

# Where to send mail, if the daemon was not told by its configuration. Example: root
MAILTO=${VEDETTE_ALERT_MAILTO:-}

severity=${VEDETTE_ALERT_SEVERITY:-error}
message=${VEDETTE_ALERT_MESSAGE:-${5:-no message}}
cluster=${VEDETTE_ALERT_CLUSTER:-cluster}
told=no

test_word=
[ "${VEDETTE_ALERT_TEST:-0}" = 1 ] && test_word='TEST '
subject="${test_word}[$cluster] $severity: $message"

body() {
    printf '%s\n\n' "$message"
    printf 'cluster   %s\n' "$cluster"
    printf 'time      %s\n' "${VEDETTE_ALERT_TIMESTAMP:-}"
    printf 'severity  %s\n' "$severity"
    printf 'code      %s\n' "${VEDETTE_ALERT_CODE:-}"
    printf 'told by   %s\n' "${VEDETTE_ALERT_MEMBER:-}${VEDETTE_ALERT_SCOPE:+, scope $VEDETTE_ALERT_SCOPE}"
    printf 'subject   %s (%s)\n' "${VEDETTE_ALERT_SUBJECT:-}" "${VEDETTE_ALERT_SUBJECT_KIND:-}"
    printf 'status    %s -> %s\n' "${VEDETTE_ALERT_PREVIOUS:-}" "${VEDETTE_ALERT_CURRENT:-}"
    printf 'cause     %s\n' "${VEDETTE_ALERT_CAUSE:-}"
    printf 'record    %s\n' "${VEDETTE_ALERT_SEQ:-}"
    printf 'sent by   %s, attempt %s\n' "${VEDETTE_ALERT_MEMBER:-}" "${VEDETTE_ALERT_ATTEMPT:-1}"
    [ -z "$test_word" ] || printf '\nThis is a test of the alert script. Nothing has happened.\n'
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# A line break in a heading would begin another heading.
one_line() {
    printf '%s' "$1" | tr '\r\n' '  '
}

send_mail() {
    if have mail; then
        body | mail -s "$(one_line "$subject")" "$MAILTO"
    elif have mailx; then
        body | mailx -s "$(one_line "$subject")" "$MAILTO"
    elif have sendmail; then
        {
            printf 'To: %s\nSubject: %s\n\n' "$(one_line "$MAILTO")" "$(one_line "$subject")"
            body
        } | sendmail -t
    else
        printf 'no mail program is installed (mail, mailx or sendmail)\n' >&2
        return 1
    fi
}

priority() {
    case $severity in
        error) printf 'daemon.err' ;;
        warning) printf 'daemon.warning' ;;
        notice) printf 'daemon.notice' ;;
        *) printf 'daemon.info' ;;
    esac
}

line="${VEDETTE_ALERT_TIMESTAMP:-} $(one_line "$subject") (${VEDETTE_ALERT_CODE:-}, record ${VEDETTE_ALERT_SEQ:-})"
printf '%s\n' "$line"

if [ -n "$MAILTO" ]; then
    if send_mail; then
        told=yes
        printf 'mailed to %s\n' "$MAILTO"
    else
        printf 'mail to %s failed\n' "$MAILTO" >&2
    fi
fi

if have logger; then
    if logger -t vedette-alert -p "$(priority)" -- "$line" 2>/dev/null; then
        told=yes
        printf 'logged\n'
    fi
fi

if [ -n "${VEDETTE_ALERT_LOG:-}" ]; then
    if { printf '%s\n' "$line" >>"$VEDETTE_ALERT_LOG"; } 2>/dev/null; then
        told=yes
        printf 'appended to %s\n' "$VEDETTE_ALERT_LOG"
    else
        printf 'cannot append to %s\n' "$VEDETTE_ALERT_LOG" >&2
    fi
fi

if [ "$told" = no ]; then
    printf 'nobody was told: set an address for mail, or make the log file writable\n' >&2
    exit 1
fi
exit 0

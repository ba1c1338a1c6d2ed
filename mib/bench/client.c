/*
 * The manager of the benchmark: one SNMPv2c session that measures how fast an agent answers.
 *
 *   cc -O2 client.c -o client $(net-snmp-config --libs)
 *   client ADDRESS walk ENTRY COLUMN COUNT REPETITIONS     one column after the other, GETBULK
 *   client ADDRESS columns ENTRY COLUMN COUNT REPETITIONS  all columns in each GETBULK
 *   client ADDRESS get ENTRY COLUMN COUNT REQUESTS         single GETs of random cells
 *
 * ENTRY is the OID of a table's entry; the columns are COLUMN and the following, COUNT in all.
 * Prints `variables seconds` for the walks, `p50 p99` in microseconds for get.
 */
#include <net-snmp/net-snmp-config.h>
#include <net-snmp/net-snmp-includes.h>
#include <time.h>

#define MOST_COLUMNS 16

struct name {
    oid numbers[MAX_OID_LEN];
    size_t length;
};

static netsnmp_session *session;
static struct name entry;
static int first, columns;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "client: %s\n", what);
    exit(1);
}

static struct name column(int number)
{
    struct name name = entry;
    name.numbers[name.length++] = first + number;
    return name;
}

static int within(const struct name *column, const netsnmp_variable_list *variable)
{
    return variable->type != SNMP_ENDOFMIBVIEW && variable->name_length > column->length
        && memcmp(variable->name, column->numbers, column->length * sizeof(oid)) == 0;
}

static netsnmp_pdu *ask(netsnmp_pdu *request)
{
    netsnmp_pdu *response = NULL;
    if (snmp_synch_response(session, request, &response) != STAT_SUCCESS || response == NULL
        || response->errstat != SNMP_ERR_NOERROR || response->variables == NULL)
        fail("no good response");
    return response;
}

/* Walks `count` columns from `start` side by side; names of the rows go to `rows` if it is given. */
static long walk(int start, int count, int repetitions, struct name *rows)
{
    struct name bounds[MOST_COLUMNS], at[MOST_COLUMNS];
    long found = 0;
    int over = 0;

    for (int place = 0; place < count; place++)
        at[place] = bounds[place] = column(start + place);
    while (!over) {
        netsnmp_pdu *request = snmp_pdu_create(SNMP_MSG_GETBULK), *response;
        int place = 0;
        request->non_repeaters = 0;
        request->max_repetitions = repetitions;
        for (int each = 0; each < count; each++)
            snmp_add_null_var(request, at[each].numbers, at[each].length);
        response = ask(request);
        for (netsnmp_variable_list *variable = response->variables; variable != NULL;
             variable = variable->next_variable, place = (place + 1) % count) {
            if (!within(&bounds[place], variable)) {
                over = 1;
                continue;
            }
            memcpy(at[place].numbers, variable->name, variable->name_length * sizeof(oid));
            at[place].length = variable->name_length;
            if (rows != NULL)
                rows[found] = at[place];
            found++;
        }
        snmp_free_pdu(response);
    }
    return found;
}

static int compare(const void *left, const void *right)
{
    double difference = *(const double *) left - *(const double *) right;
    return difference < 0 ? -1 : difference > 0;
}

static void get(int requests)
{
    static struct name rows[200000];
    long count = walk(0, 1, 50, rows);
    double *taken = calloc(requests, sizeof *taken);

    if (count == 0)
        fail("the table is empty");
    srand(1);
    for (int each = 0; each < requests; each++) {
        struct name cell = rows[rand() % count];
        netsnmp_pdu *request = snmp_pdu_create(SNMP_MSG_GET), *response;
        double start;
        cell.numbers[entry.length] = first + rand() % columns;
        snmp_add_null_var(request, cell.numbers, cell.length);
        start = now();
        response = ask(request);
        taken[each] = (now() - start) * 1e6;
        if (response->variables->type >= SNMP_NOSUCHOBJECT)
            fail("a cell is missing");
        snmp_free_pdu(response);
    }
    qsort(taken, requests, sizeof *taken, compare);
    printf("%.0f %.0f\n", taken[requests / 2], taken[requests * 99 / 100]);
}

int main(int count, char **arguments)
{
    netsnmp_session settings;
    double start;
    long found = 0;

    if (count != 7)
        fail("usage: client ADDRESS walk|columns|get ENTRY COLUMN COUNT NUMBER");
    netsnmp_ds_set_boolean(NETSNMP_DS_LIBRARY_ID, NETSNMP_DS_LIB_DONT_PERSIST_STATE, 1);
    init_snmp("client");
    snmp_sess_init(&settings);
    settings.peername = arguments[1];
    settings.version = SNMP_VERSION_2c;
    settings.community = (u_char *) "public";
    settings.community_len = 6;
    settings.timeout = 10000000;
    settings.retries = 0;
    session = snmp_open(&settings);
    entry.length = MAX_OID_LEN;
    if (session == NULL || !snmp_parse_oid(arguments[3], entry.numbers, &entry.length))
        fail("cannot open a session");
    first = atoi(arguments[4]);
    columns = atoi(arguments[5]);
    if (columns < 1 || columns > MOST_COLUMNS)
        fail("too many columns");
    if (strcmp(arguments[2], "get") == 0) {
        get(atoi(arguments[6]));
        return 0;
    }
    start = now();
    if (strcmp(arguments[2], "columns") == 0)
        found = walk(0, columns, atoi(arguments[6]), NULL);
    else
        for (int each = 0; each < columns; each++)
            found += walk(each, 1, atoi(arguments[6]), NULL);
    printf("%ld %.6f\n", found, now() - start);
    return 0;
}

/*
 * The peer of the benchmark: a subagent on net-snmp's own library that serves a table of the same
 * shape as vedetteLinkTable (three index numbers, eight columns of the same types) from memory, by
 * the library's fastest helper, table_tdata.
 *
 *   cc -O2 peer.c -o peer $(net-snmp-config --agent-libs)
 *   peer AGENTX-SOCKET ROWS
 *
 * Rows are the pairs (low, high), low < high, in the order in which high grows. Ends on SIGTERM.
 */
#include <net-snmp/net-snmp-config.h>
#include <net-snmp/net-snmp-includes.h>
#include <net-snmp/agent/net-snmp-agent-includes.h>
#include <signal.h>

enum { NAME = 3, STATUS, SINCE, LAST_CHANGE, PRIORITY, ROUND_TRIP, RECEIVED, LOST };

struct link {
    u_long low, high, network;
    char name[32];
    long status, priority;
    u_char since[11];
    u_long last_change, round_trip;
    struct counter64 received, lost;
};

static volatile sig_atomic_t running = 1;

static void stop(int signal)
{
    (void) signal;
    running = 0;
}

static void answer(netsnmp_variable_list *variable, const struct link *link, u_int column)
{
    switch (column) {
    case NAME:
        snmp_set_var_typed_value(variable, ASN_OCTET_STR, link->name, strlen(link->name));
        break;
    case STATUS:
        snmp_set_var_typed_value(variable, ASN_INTEGER, &link->status, sizeof link->status);
        break;
    case SINCE:
        snmp_set_var_typed_value(variable, ASN_OCTET_STR, link->since, sizeof link->since);
        break;
    case LAST_CHANGE:
        snmp_set_var_typed_value(variable, ASN_TIMETICKS, &link->last_change, sizeof link->last_change);
        break;
    case PRIORITY:
        snmp_set_var_typed_value(variable, ASN_INTEGER, &link->priority, sizeof link->priority);
        break;
    case ROUND_TRIP:
        snmp_set_var_typed_value(variable, ASN_GAUGE, &link->round_trip, sizeof link->round_trip);
        break;
    case RECEIVED:
        snmp_set_var_typed_value(variable, ASN_COUNTER64, &link->received, sizeof link->received);
        break;
    case LOST:
        snmp_set_var_typed_value(variable, ASN_COUNTER64, &link->lost, sizeof link->lost);
        break;
    }
}

static int handle(netsnmp_mib_handler *handler, netsnmp_handler_registration *registration,
                  netsnmp_agent_request_info *info, netsnmp_request_info *request)
{
    (void) handler;
    (void) registration;
    for (; request != NULL; request = request->next) {
        struct link *link = netsnmp_tdata_extract_entry(request);
        netsnmp_table_request_info *table = netsnmp_extract_table_info(request);
        if (request->processed)
            continue;
        if (link == NULL || table == NULL)
            netsnmp_set_request_error(info, request, SNMP_NOSUCHINSTANCE);
        else
            answer(request->requestvb, link, table->colnum);
    }
    return SNMP_ERR_NOERROR;
}

static void fill(netsnmp_tdata *table, struct link *link, u_long low, u_long high)
{
    static const u_char since[11] = { 7, 232, 2, 29, 12, 34, 56, 0, '+', 0, 0 };
    netsnmp_tdata_row *row = netsnmp_tdata_create_row();

    link->low = low;
    link->high = high;
    link->network = 1;
    snprintf(link->name, sizeof link->name, "node %lu-node %lu/neta", low, high);
    link->status = 2;
    link->priority = 1;
    memcpy(link->since, since, sizeof since);
    row->data = link;
    netsnmp_tdata_row_add_index(row, ASN_UNSIGNED, &link->low, sizeof link->low);
    netsnmp_tdata_row_add_index(row, ASN_UNSIGNED, &link->high, sizeof link->high);
    netsnmp_tdata_row_add_index(row, ASN_UNSIGNED, &link->network, sizeof link->network);
    netsnmp_tdata_add_row(table, row);
}

int main(int count, char **arguments)
{
    static oid root[] = { 1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7771, 1, 13 };
    netsnmp_table_registration_info *shape;
    netsnmp_handler_registration *registration;
    netsnmp_tdata *table;
    struct link *links;
    u_long low = 1, high = 2;
    int rows;

    if (count != 3) {
        fprintf(stderr, "usage: peer AGENTX-SOCKET ROWS\n");
        return 2;
    }
    rows = atoi(arguments[2]);
    signal(SIGTERM, stop);
    netsnmp_ds_set_boolean(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_ROLE, 1);
    netsnmp_ds_set_string(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_X_SOCKET, arguments[1]);
    netsnmp_ds_set_boolean(NETSNMP_DS_LIBRARY_ID, NETSNMP_DS_LIB_DONT_PERSIST_STATE, 1);
    init_agent("peer");
    table = netsnmp_tdata_create_table("peerTable", 0);
    links = calloc(rows, sizeof *links);
    for (int row = 0; row < rows; row++) {
        fill(table, &links[row], low, high);
        if (++low == high) {
            low = 1;
            high++;
        }
    }
    shape = SNMP_MALLOC_TYPEDEF(netsnmp_table_registration_info);
    netsnmp_table_helper_add_indexes(shape, ASN_UNSIGNED, ASN_UNSIGNED, ASN_UNSIGNED, 0);
    shape->min_column = NAME;
    shape->max_column = LOST;
    registration = netsnmp_create_handler_registration("peerTable", handle, root,
                                                       OID_LENGTH(root), HANDLER_CAN_RONLY);
    netsnmp_tdata_register(registration, table, shape);
    init_snmp("peer");
    while (running)
        agent_check_and_process(1);
    snmp_shutdown("peer");
    return 0;
}

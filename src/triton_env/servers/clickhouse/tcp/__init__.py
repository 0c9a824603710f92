"""ClickHouse's native protocol over TCP, beside HTTP and on the same engine.

    wire         numbers and strings as they go over the connection
    packets      what clients send before data, and what the server answers
    kinds        how many bytes a column of each type takes
    blocks       blocks of clients as the engine reads them
    answers      from a result of the engine to packets
    statements   what is asked of a statement beside what HTTP asks
    inserts      from packets to the engine
    connection   one client
    listener     the port

Source of the protocol: ClickHouse, src/Core/ProtocolDefines.h, src/Server/TCPHandler.cpp and
src/Formats/NativeWriter.cpp. What is spoken here is revision 54460, the first one with query parameters and
the time of a query in Progress: later ones add what the engine does not hand out (versions of JSON, sparse columns,
keywords). Nothing is imported here, and all of this only when the first client connects.
"""

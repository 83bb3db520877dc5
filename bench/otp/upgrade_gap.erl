%% The peer of bench/upgrade.cpp: the same upgrades the way release_handler does them (suspend every process that uses the module, load
%% the module, code_change each, resume each), under a closed-loop client that notes its largest gap.
%%
%%   erl -noshell -pa FOLDER -run upgrade_gap main FOLDER_1 FOLDER_2 ENTRIES SERVERS
%% prints one line per case: name, largest gap in ms, total in ms, largest gap without an upgrade in ms.
-module(upgrade_gap).
-export([main/1]).

main([Old, New, Entries, Servers]) ->
    run("map", Old, New, fun() -> [start({table, list_to_integer(Entries)})] end, list_to_integer(Entries)),
    run("servers", Old, New, fun() -> [start(item) || _ <- lists:seq(1, list_to_integer(Servers))] end, 1),
    halt(0).

start(What) ->
    {ok, Pid} = gap_server:start(What),
    Pid.

run(Name, Old, New, Start, Ids) ->
    load(Old),
    Pids = Start(),
    Table = list_to_tuple(Pids),
    Noise = with_client(Table, Ids, fun() -> timer:sleep(1000) end),
    Begun = erlang:monotonic_time(nanosecond),
    Gap = with_client(Table, Ids, fun() -> upgrade(Pids, New, Begun) end),
    Total = receive {total, Ns} -> Ns end,
    io:format("~s ~.6f ~.6f ~.6f~n", [Name, Gap / 1.0e6, Total / 1.0e6, Noise / 1.0e6]),
    [exit(Pid, kill) || Pid <- Pids],
    code:purge(gap_server).

load(Folder) ->
    code:purge(gap_server),
    {module, gap_server} = code:load_abs(filename:join(Folder, "gap_server")).

upgrade(Pids, New, _Begun) ->
    timer:sleep(200),
    Begun = erlang:monotonic_time(nanosecond),
    {ok, Binary} = file:read_file(filename:join(New, "gap_server.beam")),
    [ok = sys:suspend(Pid, infinity) || Pid <- Pids],
    {module, gap_server} = code:load_binary(gap_server, "gap_server.erl", Binary),
    [ok = sys:change_code(Pid, gap_server, "1", [], infinity) || Pid <- Pids],
    [ok = sys:resume(Pid, infinity) || Pid <- Pids],
    self() ! {total, erlang:monotonic_time(nanosecond) - Begun},
    timer:sleep(200).

%% The largest time between two replies while Work runs.
with_client(Table, Ids, Work) ->
    Self = self(),
    Client = spawn_link(fun() -> ask(Table, Ids, erlang:monotonic_time(nanosecond), 0, Self) end),
    Work(),
    Client ! stop,
    receive {largest, Client, Largest} -> Largest end.

ask(Table, Ids, Last, Largest, Owner) ->
    _ = gen_server:call(element(rand:uniform(tuple_size(Table)), Table), {touch, rand:uniform(Ids) - 1}, infinity),
    Now = erlang:monotonic_time(nanosecond),
    New = max(Largest, Now - Last),
    receive stop -> Owner ! {largest, self(), New}
    after 0 -> ask(Table, Ids, Now, New, Owner)
    end.

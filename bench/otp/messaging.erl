%% The group `messaging` in Erlang/OTP, with gen_server on both sides, as a server's author would write it.
%%   erl -noshell +P 2000000 -pa DIR -run messaging main OUT.json [smoke]
%% call.* and pingpong: ns per call and per round trip; cast.*: casts handled per second; spawn.1M: servers started per
%% second; spawn.1M.bytes: memory of the emulator per server.
-module(messaging).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2]).

init([]) -> {ok, 0}.

handle_call({add, By}, _From, Value) -> {reply, Value + By, Value + By};
handle_call({ask, Peer, Times}, _From, Value) ->
    times(Times, fun() -> gen_server:call(Peer, {add, 1}) end),
    {reply, ok, Value};
handle_call(value, _From, Value) -> {reply, Value, Value}.

handle_cast({add, By}, Value) -> {noreply, Value + By};
handle_cast({ping, _To, 0, Done}, Value) -> Done ! done, {noreply, Value};
handle_cast({ping, To, Left, Done}, Value) ->
    gen_server:cast(To, {ping, self(), Left - 1, Done}),
    {noreply, Value}.

main([Out]) -> main(Out, 1_000_000, 1_000_000);
main([Out, "smoke"]) -> main(Out, 10_000, 10_000).

main(Out, Messages, Servers) ->
    Results = [best(fun() -> call_idle(Messages) end, min), best(fun() -> call_contended(Messages) end, min),
               best(fun() -> call_server_to_server(Messages) end, min),
               best(fun() -> call_sleeping(max(50, Messages div 2000)) end, min),
               best(fun() -> cast_1to1(Messages) end, max), best(fun() -> cast_2to1(Messages) end, max),
               best(fun() -> pingpong(Messages) end, min)] ++ spawn_many(Servers),
    Text = lists:join(",\n", [io_lib:format("{\"name\": \"~s\", \"value\": ~.3f, \"unit\": \"~s\"}", [N, V * 1.0, U])
                              || {N, V, U} <- Results]),
    ok = file:write_file(Out, ["{\"peer\": \"otp\", \"results\": [\n", Text, "]}\n"]),
    init:stop().

%% The best of three, as the others measure.
best(Measure, Which) ->
    Measured = [{Name, _, Unit} | _] = [Measure() || _ <- [1, 2, 3]],
    {Name, lists:Which([Value || {_, Value, _} <- Measured]), Unit}.

server() -> {ok, Pid} = gen_server:start(?MODULE, [], []), Pid.

elapsed_ns(Fun) ->
    Begin = erlang:monotonic_time(nanosecond),
    Fun(),
    max(1, erlang:monotonic_time(nanosecond) - Begin).

times(0, _) -> ok;
times(N, Fun) -> Fun(), times(N - 1, Fun).

call_idle(Count) ->
    Pid = server(),
    Took = elapsed_ns(fun() -> times(Count, fun() -> gen_server:call(Pid, {add, 1}) end) end),
    gen_server:stop(Pid),
    {"call.idle", Took / Count, "ns"}.

%% Runs it in that many processes at once.
together(Processes, Fun) ->
    Self = self(),
    times(Processes, fun() -> spawn(fun() -> Fun(), Self ! over end) end),
    times(Processes, fun() -> receive over -> ok end end).

call_contended(Count) ->
    Pid = server(),
    Half = fun() -> times(Count div 2, fun() -> gen_server:call(Pid, {add, 1}) end) end,
    Took = elapsed_ns(fun() -> together(2, Half) end),
    gen_server:stop(Pid),
    {"call.contended", Took / Count, "ns"}.

call_server_to_server(Count) ->
    [A, B] = [server(), server()],
    Took = elapsed_ns(fun() -> gen_server:call(A, {ask, B, Count}, infinity) end),
    gen_server:stop(A),
    gen_server:stop(B),
    {"call.server_to_server", Took / Count, "ns"}.

%% One call a millisecond: the median.
call_sleeping(Count) ->
    Pid = server(),
    Each = [begin timer:sleep(1), elapsed_ns(fun() -> gen_server:call(Pid, {add, 1}) end) end || _ <- lists:seq(1, Count)],
    gen_server:stop(Pid),
    {"call.sleeping", lists:nth(Count div 2 + 1, lists:sort(Each)), "ns"}.

cast_2to1(Count) ->
    Pid = server(),
    Half = fun() -> times(Count div 2, fun() -> gen_server:cast(Pid, {add, 1}) end) end,
    Took = elapsed_ns(fun() ->
        together(2, Half),
        Handled = Count div 2 * 2,
        Handled = gen_server:call(Pid, value, infinity)
    end),
    gen_server:stop(Pid),
    {"cast.2to1", Count * 1.0e9 / Took, "1/s"}.

cast_1to1(Count) ->
    Pid = server(),
    Took = elapsed_ns(fun() ->
        times(Count, fun() -> gen_server:cast(Pid, {add, 1}) end),
        Count = gen_server:call(Pid, value, infinity)
    end),
    gen_server:stop(Pid),
    {"cast.1to1", Count * 1.0e9 / Took, "1/s"}.

pingpong(Count) ->
    [A, B] = [server(), server()],
    Took = elapsed_ns(fun() ->
        gen_server:cast(A, {ping, B, 2 * Count, self()}),
        receive done -> ok end
    end),
    gen_server:stop(A),
    gen_server:stop(B),
    {"pingpong", Took / Count, "ns"}.

spawn_many(Count) ->
    erlang:garbage_collect(),
    Before = erlang:memory(total),
    Self = self(),
    Keeper = spawn(fun() ->
        Took = elapsed_ns(fun() -> times(Count, fun server/0) end),
        Self ! {took, Took},
        receive stop -> ok end
    end),
    Took = receive {took, T} -> T end,
    Bytes = (erlang:memory(total) - Before) / Count,
    Keeper ! stop,
    [{"spawn.1M", Count * 1.0e9 / Took, "1/s"}, {"spawn.1M.bytes", Bytes, "bytes"}].

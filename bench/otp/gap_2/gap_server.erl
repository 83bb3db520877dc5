%% Version 2 of the server that upgrade_gap.erl upgrades: a table of entries, or one item.
-module(gap_server).
-vsn("2").
-behaviour(gen_server).
-export([start/1, init/1, handle_call/3, handle_cast/2, code_change/3]).

start(What) -> gen_server:start(?MODULE, What, []).

init({table, Count}) -> {ok, {table, maps:from_list([{Id, {0, Id, 100}} || Id <- lists:seq(0, Count - 1)])}};
init(item) -> {ok, {item, 0, 100}}.

handle_call({touch, Id}, _From, {table, Live}) ->
    {Hits, Seen, Quota} = maps:get(Id, Live),
    {reply, Hits + 1, {table, Live#{Id := {Hits + 1, Seen, Quota}}}};
handle_call({touch, _Id}, _From, {item, Hits, Quota}) -> {reply, Hits + 1, {item, Hits + 1, Quota}}.

handle_cast(_Message, State) -> {noreply, State}.

code_change(_Old, {table, Live}, _Extra) ->
    {ok, {table, maps:map(fun(_Id, {Hits, Seen}) -> {Hits, Seen, 100} end, Live)}};
code_change(_Old, {item, Hits}, _Extra) -> {ok, {item, Hits, 100}}.

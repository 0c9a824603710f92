# Sourced by the programs that start servers. The grammar is that of src/triton_env/core/server_options.py.
# shellcheck shell=sh

# each_option TEXT COMMAND: run COMMAND NAME VALUE for each option in TEXT, which are NAME=VALUE with commas between them.
# What stands between two commas without being such a pair belongs to the value before it.
each_option() {
    option_rest=$1
    while :; do
        case $option_rest in
        *, | *' ') option_rest=${option_rest%?} ;;
        *) break ;;
        esac
    done
    option_rest=$option_rest,
    option_name=
    option_value=
    while [ -n "$option_rest" ]; do
        option_piece=${option_rest%%,*}
        option_rest=${option_rest#*,}
        trim "${option_piece%%=*}"
        case $option_piece in
        *=*)
            case $trimmed in
            '' | [!A-Za-z_]* | *[!A-Za-z0-9_.-]*) trimmed= ;;
            esac
            ;;
        *) trimmed= ;;
        esac
        if [ -z "$trimmed" ]; then
            option_value=$option_value,$option_piece
            continue
        fi
        option_next=$trimmed
        end_option "$2"
        option_name=$option_next
        option_value=${option_piece#*=}
    done
    end_option "$2"
}

end_option() {
    if [ -n "$option_name" ]; then
        trim "$option_value"
        "$1" "$option_name" "$trimmed"
    fi
}

# trim TEXT: $trimmed is TEXT without the blanks around it.
trim() {
    trimmed=$1
    while :; do
        case $trimmed in
        ' '*) trimmed=${trimmed#?} ;;
        *' ') trimmed=${trimmed%?} ;;
        *) return ;;
        esac
    done
}
